// foreign.mjs FOLDER: reads [[where, object], ...] of kinds that operators bring, and says a line for each that is wrong: by
// the schemas of their CRDs, as functions, for values and limits, and as types, for fields that there are not. FOLDER has
// the node_modules of package.json.

import { readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const PACKAGES = {
  "cert-manager.io": "cert-manager",
  "gateway.networking.k8s.io": "gateway-api",
  "keda.sh": "keda",
  "monitoring.coreos.com": "prometheus-operator",
};
const folder = resolve(process.argv[2]);
const load = (...path) => import(pathToFileURL(join(folder, "node_modules", ...path)));
const objects = JSON.parse(readFileSync(0, "utf8"));

const wrong = (index, message) => {
  const [where, { kind, metadata }] = objects[index];
  console.log(`${where}: ${kind} ${metadata.name}: ${message}`);
};

for (const [index, [, object]] of objects.entries()) {
  const module = await load("@kubernetes-models", PACKAGES[object.apiVersion.split("/")[0]], object.apiVersion, "index.js");
  try {
    new module[object.kind](object).validate();
  } catch (error) {
    wrong(index, error.message);
  }
}

// One object a line, so that the line of a complaint says which.
const program = objects.map(([, object], index) => {
  const [group] = object.apiVersion.split("/");
  const type = `import("@kubernetes-models/${PACKAGES[group]}/${object.apiVersion}").I${object.kind}`;
  return `export const o${index}: ${type} = ${JSON.stringify(object)};`;
});
const file = join(folder, "objects.ts");
writeFileSync(file, program.join("\n"));
const { default: ts } = await load("typescript", "lib", "typescript.js");
const { NodeNext } = ts.ModuleKind;
const checked = ts.createProgram([file], { module: NodeNext, strict: true, noEmit: true, skipLibCheck: true, types: [] });
for (const { file: source, start, messageText } of ts.getPreEmitDiagnostics(checked)) {
  const message = ts.flattenDiagnosticMessageText(messageText, " ");
  if (!source) throw new Error(message);
  wrong(source.getLineAndCharacterOfPosition(start).line, message);
}
