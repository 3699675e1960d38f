// Parses the AsyncAPI document named as the argument; prints what is wrong and fails when anything is an error.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], "utf8"));
const errors = diagnostics.filter((diagnostic) => diagnostic.severity === 0);
for (const error of errors) console.error(error.path.join("."), error.message);
if (errors.length > 0 || document === undefined) process.exit(1);
console.log(`valid: ${document.channels().all().length} channels, ${document.components().messages().all().length} messages`);
