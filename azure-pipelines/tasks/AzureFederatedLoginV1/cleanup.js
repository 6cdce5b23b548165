// Removes the login when the job ends. Whatever goes wrong here is a warning: the job has done its work.
"use strict";
const { spawnSync } = require("node:child_process");
const tl = require("azure-pipelines-task-lib/task");

try {
  const binary = tl.getTaskVariable("binary");
  if (!tl.getBoolInput("cleanup")) {
    console.log("azfed: the login stays, as cleanup is false");
  } else if (binary && tl.getTaskVariable("loggedIn")) {
    const { status, error } = spawnSync(binary, ["logout"], { stdio: "inherit" });
    if (error || status !== 0) tl.warning(`the login could not be removed (${error?.message ?? `exit code ${status}`})`);
  }
} catch (error) {
  tl.warning(`the login could not be removed (${error.message})`);
}
tl.setResult(tl.TaskResult.Succeeded, "");
