#!/bin/sh
# The login as actions around az do it: the platform's token by one request, then az.
set -eu
curl --silent --show-error --fail --header "Authorization: bearer $ACTIONS_ID_TOKEN_REQUEST_TOKEN" \
  "$ACTIONS_ID_TOKEN_REQUEST_URL&audience=api://AzureADTokenExchange" | jq --join-output .value >"$RUNNER_TEMP/assertion"
"$AZ" login --service-principal --username "$AZURE_CLIENT_ID" --tenant "$AZURE_TENANT_ID" \
  --federated-token "@$RUNNER_TEMP/assertion" --output none
