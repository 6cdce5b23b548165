// Takes ids, cloud and connection from the service connection, and starts azfed. No decision about the login is made here.
"use strict";
const { spawnSync } = require("node:child_process");
const { dirname } = require("node:path");
const tl = require("azure-pipelines-task-lib/task");
const { find } = require("./binary");

function options(connection) {
  const data = (name) => tl.getEndpointDataParameter(connection, name, true);
  const authorisation = (name) => tl.getEndpointAuthorizationParameter(connection, name, true);
  const list = ["login", "--source=azure-devops", "--output=azure-devops", `--service-connection-id=${connection}`];
  const add = (flag, value) => value && list.push(`--${flag}=${value}`);
  add("client-id", authorisation("serviceprincipalid"));
  add("tenant-id", authorisation("tenantid"));
  add("subscription-id", data("SubscriptionID"));
  add("cloud", data("environment"));
  add("for", tl.getInput("for"));
  add("audience", tl.getInput("audience"));
  add("timeout", tl.getInput("timeout"));
  if (tl.getBoolInput("endpoints")) list.push("--endpoints");
  if ((tl.getInput("keepFresh") ?? "").toLowerCase() === "false") list.push("--no-keep-fresh");
  for (const scope of tl.getDelimitedInput("scopes", "\n")) add("scope", scope.trim());
  for (const scope of tl.getDelimitedInput("allowScope", "\n")) add("allow-scope", scope.trim());
  return list;
}

// Older agents do not set it; its parts are there on all.
function requestUri() {
  const part = (name) => tl.getVariable(`System.${name}`);
  return (
    part("OidcRequestUri") ??
    `${part("CollectionUri")}${part("TeamProjectId")}/_apis/distributedtask/hubs/${part("HostType")}/plans/${part("PlanId")}/jobs/${part("JobId")}/oidctoken`
  );
}

try {
  const connection = tl.getInputRequired("azureSubscription");
  const scheme = tl.getEndpointAuthorizationScheme(connection, true) ?? "";
  if (scheme.toLowerCase() !== "workloadidentityfederation") {
    throw new Error(`the service connection uses ${scheme || "no"} authorisation: convert it to workload identity federation in the project's settings`);
  }
  const binary = find(tl.getVariable("AZFED_BINARY"), tl.getVariable("Agent.TempDirectory"));
  tl.setTaskVariable("binary", binary);
  // for `azfed exec` in later steps, and for `azfed doctor` where this one fails
  if (!tl.getVariable("AZFED_BINARY")) tl.prependPath(dirname(binary));
  const environment = {
    ...process.env,
    SYSTEM_OIDCREQUESTURI: requestUri(),
    SYSTEM_ACCESSTOKEN: tl.getEndpointAuthorizationParameter("SYSTEMVSSCONNECTION", "AccessToken", false),
  };
  const { status, error } = spawnSync(binary, options(connection), { env: environment, stdio: "inherit" });
  if (error) throw new Error(`${binary} could not be started (${error.message})`);
  if (status === 0) tl.setTaskVariable("loggedIn", "true");
  tl.setResult(status === 0 ? tl.TaskResult.Succeeded : tl.TaskResult.Failed, status === 0 ? "" : `azfed login: exit code ${status}`);
} catch (error) {
  tl.setResult(tl.TaskResult.Failed, error.message);
}
