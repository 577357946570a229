// The types of the API's client, from its description.
import { writeFile } from "node:fs/promises";
import openapiTypes, { astToString } from "openapi-typescript";

const types = await openapiTypes(new URL("../client/openapi.json", import.meta.url), { alphabetize: true });
await writeFile(new URL("../client/schema.d.ts", import.meta.url), astToString(types));
