// Drives the npm package `ollama`, as node finds it from the folder given: node npm_client.mjs FOLDER URL.
// One JSON object tells all it got; what goes wrong ends it with a status that is not 0.

import { createRequire } from "node:module";

const [folder, host] = process.argv.slice(2);
const { Ollama } = createRequire(`${folder}/`)("ollama");
const client = new Ollama({ host });
const go = { model: "recite", prompt: "go" };
const told = {};

told.list = (await client.list()).models.map((model) => model.name);
told.generate = (await client.generate({ ...go, options: { num_predict: 7 } })).response;
const messages = [{ role: "user", content: "go" }];
told.chat = [];
for await (const part of await client.chat({ model: "recite", messages, stream: true, options: { num_predict: 9 } })) {
  told.chat.push({ content: part.message.content, done: part.done });
}
told.show = (await client.show({ model: "recite" })).model_info["general.architecture"];
told.ps = (await client.ps()).models.map((model) => model.name);
told.nobody = await client.show({ model: "nobody" }).catch((error) => [error.status_code, error.message]);

// The model never ends by itself, so that only the abort can end this.
const endless = await client.generate({ ...go, stream: true });
told.before = [];
try {
  for await (const part of endless) {
    told.before.push(part.response);
    if (told.before.length === 5) endless.abort();
  }
  told.abort = "ended";
} catch (error) {
  told.abort = error.name;
}
console.log(JSON.stringify(told));
