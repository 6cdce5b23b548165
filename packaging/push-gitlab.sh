#!/usr/bin/env bash
# Pushes gitlab/ as the component project that GitLab's catalog takes, with the release's tag.
# GITLAB_PROJECT_URL (https) and GITLAB_PUSH_TOKEN name the project; the token goes to git by a credential helper, not in argv.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${GITLAB_PROJECT_URL:?the component project, https}" "${GITLAB_PUSH_TOKEN:?a project access token}"
version=$(<packaging/version)
project=$(mktemp -d)
trap 'rm -rf "$project"' EXIT
helper='!f() { echo username=azfed; echo "password=$GITLAB_PUSH_TOKEN"; }; f'
git -c credential.helper="$helper" clone --quiet --depth 1 "$GITLAB_PROJECT_URL" "$project"
find "$project" -mindepth 1 -maxdepth 1 ! -name .git -exec rm -rf {} +
cp -R gitlab/. "$project/"
cp LICENSE-APACHE LICENSE-MIT CHANGELOG.md "$project/"
cd "$project"
git add --all
git -c user.name=azfed -c user.email=azfed@users.noreply.github.com commit --quiet --allow-empty --message "release: $version"
git tag "$version"
git -c credential.helper="$helper" push --quiet origin HEAD "$version"
