// Removes this action's own login when the job ends. Whatever goes wrong here is a warning: the job has done its work.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { basename, dirname } from "node:path";

const { STATE_azfed_binary: binary, STATE_azfed_sum: sum, STATE_azfed_login_dir: login, INPUT_CLEANUP: cleanup = "" } = process.env;

function warn(message) {
  console.log(`::warning title=azfed::${message.replaceAll("%", "%25").replaceAll("\r", "%0D").replaceAll("\n", "%0A")}`);
}

try {
  if (cleanup.trim().toLowerCase() === "false") {
    console.log("azfed: the login stays, as cleanup is false");
  } else if (binary && login) {
    // a step of the job may have put another file there
    if (!existsSync(binary) || createHash("sha256").update(readFileSync(binary)).digest("hex") !== sum) {
      warn(`${binary} is not the file that logged in: it was not run, and the login was not removed`);
    } else {
      const { status, error } = spawnSync(binary, ["logout"], { stdio: "inherit" });
      if (error || status !== 0) warn(`the login could not be removed (${error?.message ?? `exit code ${status}`})`);
      if (basename(dirname(binary)).startsWith("azfed-binary-")) rmSync(dirname(binary), { recursive: true, force: true });
    }
  }
} catch (error) {
  warn(`the login could not be removed (${error.message})`);
}
