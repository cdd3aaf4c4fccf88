// The reference client `@openclaw/gateway-client` on Node: the workloads of workloads.py.
//
//     node --expose-gc reference.mjs FOLDER      where npm installed it; one JSON job a line
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const require = createRequire(pathToFileURL(`${process.argv[2]}/`));
const { GatewayClient } = await import(
  pathToFileURL(require.resolve("@openclaw/gateway-client")).href
);
const PARAMS = { text: "how much is the fish", number: 7 };

function check(got, expected) {
  if (got !== expected) throw new Error(`${got} instead of ${expected}`);
}

function isEcho(answer) {
  check(answer.text === PARAMS.text && answer.number === PARAMS.number, true);
}

async function connect(job, onEvent) {
  const online = Promise.withResolvers();
  const client = new GatewayClient({
    url: `ws://127.0.0.1:${job.port}/`,
    minProtocol: 4,
    maxProtocol: 4,
    deviceIdentity: null,
    onHelloOk: () => online.resolve(),
    onConnectError: (error) => online.reject(error),
    onEvent,
  });
  client.start();
  await online.promise;
  return client;
}

function stopwatch() {
  globalThis.gc();
  const began = process.hrtime.bigint();
  const cpu = process.cpuUsage();
  return (items, kilobytes = 0) => {
    const spent = process.cpuUsage(cpu);
    return {
      items,
      seconds: Number(process.hrtime.bigint() - began) / 1e9,
      cpu: (spent.user + spent.system) / 1e6,
      kilobytes,
    };
  };
}

function resident() {
  globalThis.gc();
  return process.memoryUsage.rss();
}

const WORKLOADS = {
  async requests(job, client) {
    const each = Math.floor(job.count / job.parallel);
    let done = 0;
    const call = async () => {
      for (let i = 0; i < each; i++) {
        isEcho(await client.request("bench.echo", PARAMS));
        done++;
      }
    };
    const stop = stopwatch();
    await Promise.all(Array.from({ length: job.parallel }, call));
    check(done, each * job.parallel);
    return stop(done);
  },
  async up(job, client) {
    const params = { text: "x".repeat(job.size) };
    const stop = stopwatch();
    for (let i = 0; i < job.count; i++) {
      const { size } = await client.request("bench.size", params);
      check(size >= job.size && size < job.size + 100, true);
    }
    return stop(job.count);
  },
  async down(job, client) {
    const stop = stopwatch();
    for (let i = 0; i < job.count; i++) {
      const { text } = await client.request("bench.text", { size: job.size });
      check(text.length, job.size);
    }
    return stop(job.count);
  },
};

async function burst(job) {
  const complete = Promise.withResolvers();
  let taken = 0;
  const client = await connect(job, (event) => {
    if (event.event !== "bench") return;
    if (++taken === job.count) complete.resolve(event.payload);
  });
  const stop = stopwatch();
  await client.request("bench.burst", { count: job.count, size: job.size });
  const last = await complete.promise;
  const result = stop(taken);
  await client.stopAndWait();
  check(last.text.length, job.size);
  return result;
}

async function connects(job) {
  const stop = stopwatch();
  for (let i = 0; i < job.count; i++) await (await connect(job)).stopAndWait();
  return stop(job.count);
}

async function idle(job) {
  const before = resident();
  const clients = [];
  for (let i = 0; i < job.count; i++) clients.push(await connect(job));
  const kilobytes = (resident() - before) / 1024 / job.count;
  const stop = stopwatch();
  await new Promise((resolve) => setTimeout(resolve, job.seconds * 1000));
  const result = stop(job.count, kilobytes);
  for (const client of clients) isEcho(await client.request("bench.echo", PARAMS));
  await Promise.all(clients.map((client) => client.stopAndWait()));
  return result;
}

async function run(job) {
  if (job.kind === "burst") return burst(job);
  if (job.kind === "connects") return connects(job);
  if (job.kind === "idle") return idle(job);
  const client = await connect(job);
  try {
    return await WORKLOADS[job.kind](job, client);
  } finally {
    await client.stopAndWait();
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  let answer;
  try {
    answer = await run(JSON.parse(line));
  } catch (error) {
    answer = { error: String(error?.stack ?? error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
