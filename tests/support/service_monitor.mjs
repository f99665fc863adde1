// Holds a ServiceMonitor, JSON on its input, against the schema of its custom resource: node service_monitor.mjs FOLDER

import { readFileSync } from "node:fs";

const models = `${process.argv[2]}/node_modules/@kubernetes-models/prometheus-operator`;
const { ServiceMonitor } = await import(`${models}/monitoring.coreos.com/v1/ServiceMonitor.js`);
new ServiceMonitor(JSON.parse(readFileSync(0, "utf8"))).validate();
