// Finds the azfed binary, verifies it, passes the inputs on, starts it. No decision about the login is made here.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const TARGETS = {
  "linux-x64": "x86_64-unknown-linux-musl",
  "linux-arm64": "aarch64-unknown-linux-musl",
  "darwin-x64": "x86_64-apple-darwin",
  "darwin-arm64": "aarch64-apple-darwin",
  "win32-x64": "x86_64-pc-windows-msvc.exe",
  "win32-arm64": "aarch64-pc-windows-msvc.exe",
};

const input = (name) => (process.env[`INPUT_${name.toUpperCase()}`] ?? "").trim();
class Refusal extends Error {}
const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

// The committed table says which file this commit of the action runs: pinning the action pins the binary.
function pinned() {
  const root = dirname(dirname(fileURLToPath(import.meta.url)));
  const version = readFileSync(join(root, "packaging", "version"), "utf8").trim();
  const target = TARGETS[`${process.platform}-${process.arch}`];
  if (!target) throw new Refusal(`there is no azfed for ${process.platform} on ${process.arch}: name your own build in AZFED_BINARY`);
  const file = `azfed-${target}`;
  const table = readFileSync(join(root, "packaging", "checksums.txt"), "utf8").split("\n");
  const row = table.map((line) => line.split(/\s+/)).find(([, name]) => name === `${version}/${file}`);
  if (!row) throw new Refusal(`this commit has no checksum for ${version}/${file}: use a release's commit, or name a binary in AZFED_BINARY`);
  return { version, file, sum: row[0] };
}

// The release page of the repository that this action comes from, or a mirror with the same layout.
function releases() {
  const { GITHUB_SERVER_URL: server, GITHUB_ACTION_REPOSITORY: repository } = process.env;
  const base = input("download-url") || (repository && `${server}/${repository}/releases/download`);
  if (!base) throw new Refusal("this action was not fetched from a repository: set download-url, or name a binary in AZFED_BINARY");
  return base.replace(/\/+$/, "");
}

async function download(url) {
  try {
    const answer = await fetch(url, { signal: AbortSignal.timeout(120_000) });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    return Buffer.from(await answer.arrayBuffer());
  } catch (error) {
    throw new Refusal(`${url} could not be downloaded (${error.cause?.message ?? error.message}): check the proxy, set download-url to a mirror, or name a binary in AZFED_BINARY`);
  }
}

// The bytes that were verified are the bytes that run: from the job's own temp, not from a cache that jobs share.
async function binary() {
  if (process.env.AZFED_BINARY) return { path: process.env.AZFED_BINARY, sum: sha256(readFileSync(process.env.AZFED_BINARY)) };
  const { version, file, sum } = pinned();
  const cached = process.env.RUNNER_TOOL_CACHE && join(process.env.RUNNER_TOOL_CACHE, "azfed", version, file);
  let bytes = cached && existsSync(cached) ? readFileSync(cached) : undefined;
  if (!bytes || sha256(bytes) !== sum) {
    const url = `${releases()}/v${version}/${file}`;
    bytes = await download(url);
    if (sha256(bytes) !== sum) throw new Refusal(`${url} has the SHA-256 ${sha256(bytes)}, and ${sum} is expected: it was not run`);
    if (cached) {
      mkdirSync(dirname(cached), { recursive: true });
      writeFileSync(`${cached}.${process.pid}`, bytes);
      renameSync(`${cached}.${process.pid}`, cached);
    }
  }
  const path = join(mkdtempSync(join(process.env.RUNNER_TEMP, "azfed-binary-")), process.platform === "win32" ? "azfed.exe" : "azfed");
  writeFileSync(path, bytes, { mode: 0o700 });
  if (process.env.GITHUB_PATH) appendFileSync(process.env.GITHUB_PATH, `${dirname(path)}\n`); // for `azfed exec`
  return { path, sum };
}

function options() {
  const named = ["client-id", "tenant-id", "subscription-id", "audience", "authority-host", "for", "timeout", "identity-map", "wait-for-propagation"];
  const list = named.filter(input).map((name) => `--${name}=${input(name)}`);
  if (input("environment")) list.push(`--cloud=${input("environment")}`);
  for (const [name, flag] of [["scopes", "scope"], ["allow-scope", "allow-scope"]]) list.push(...input(name).split("\n").map((line) => line.trim()).filter(Boolean).map((line) => `--${flag}=${line}`));
  for (const name of ["output-access-token", "endpoints"]) if (input(name).toLowerCase() === "true") list.push(`--${name}`);
  if (input("keep-fresh").toLowerCase() === "false") list.push("--no-keep-fresh");
  return list;
}

try {
  if (input("creds")) throw new Refusal("creds holds a secret, and this login has none: remove it and say\n  client-id: <client id>\n  tenant-id: <tenant id>\n  subscription-id: <subscription id>");
  if (!["", "SERVICE_PRINCIPAL"].includes(input("auth-type").toUpperCase())) throw new Refusal("auth-type is SERVICE_PRINCIPAL here: the job's OIDC token is the credential of a managed identity or app registration");
  const { path, sum } = await binary();
  appendFileSync(process.env.GITHUB_STATE, `azfed_binary=${path}\nazfed_sum=${sum}\n`);
  const { status, error } = spawnSync(path, ["login", ...options()], { stdio: "inherit" });
  if (error) throw new Refusal(`${path} could not be started (${error.message})`);
  process.exitCode = status ?? 1;
  if (status === 0 && input("enable-AzPSSession").toLowerCase() === "true") {
    console.log("azfed: connect Azure PowerShell in a later pwsh step with this line:\n  Connect-AzAccount -ServicePrincipal -ApplicationId $env:AZURE_CLIENT_ID -Tenant $env:AZURE_TENANT_ID -FederatedToken (Get-Content -Raw $env:AZURE_FEDERATED_TOKEN_FILE)");
  }
} catch (error) {
  if (!(error instanceof Refusal)) throw error;
  console.log(`::error title=azfed::${error.message.replaceAll("%", "%25").replaceAll("\r", "%0D").replaceAll("\n", "%0A")}`);
  process.exitCode = 1;
}
