// Finds the azfed binary that came with the extension and verifies it against the table that came with it.
"use strict";
const { createHash } = require("node:crypto");
const { mkdtempSync, readFileSync, writeFileSync } = require("node:fs");
const { join } = require("node:path");

const TARGETS = {
  "linux-x64": "x86_64-unknown-linux-musl",
  "linux-arm64": "aarch64-unknown-linux-musl",
  "darwin-x64": "x86_64-apple-darwin",
  "darwin-arm64": "aarch64-apple-darwin",
  "win32-x64": "x86_64-pc-windows-msvc.exe",
  "win32-arm64": "aarch64-pc-windows-msvc.exe",
};

const read = (...path) => readFileSync(join(__dirname, "bin", ...path));

// The bytes that were verified are the bytes that run, from the job's own temp: a .vsix keeps no file modes.
exports.find = (own, temp) => {
  if (own) return own;
  const target = TARGETS[`${process.platform}-${process.arch}`];
  if (!target) throw new Error(`there is no azfed for ${process.platform} on ${process.arch}: name your own build in AZFED_BINARY`);
  const file = `azfed-${target}`;
  let bytes, row;
  try {
    const version = read("version").toString().trim();
    const table = read("checksums.txt").toString().split("\n").map((line) => line.split(/\s+/));
    row = table.find(([, name]) => name === `${version}/${file}`);
    bytes = read(file);
  } catch (error) {
    throw new Error(`this extension was packed without ${file} (${error.code}): name a binary in AZFED_BINARY`);
  }
  if (!row) throw new Error(`this extension has no checksum for ${file}: it was not run`);
  const sum = createHash("sha256").update(bytes).digest("hex");
  if (sum !== row[0]) throw new Error(`${file} has the SHA-256 ${sum}, and ${row[0]} is expected: it was not run`);
  const path = join(mkdtempSync(join(temp, "azfed-binary-")), process.platform === "win32" ? "azfed.exe" : "azfed");
  writeFileSync(path, bytes, { mode: 0o700 });
  return path;
};
