// A plugind worker in plain Node.js: msgpack-RPC on fd 3, nothing installed. The protocol is in wire/PROTOCOL.md.
'use strict';
const net = require('node:net');

// --- msgpack: what the protocol's value profile needs ---------------------------------------------------------------

function encode(value) {
  const parts = [];
  const head = (byte, size, n) => {
    const b = Buffer.alloc(1 + size);
    b[0] = byte;
    if (size === 8) b.writeBigInt64BE(BigInt(n), 1);
    else if (size) b.writeUIntBE(n, 1, size);
    parts.push(b);
  };
  const sized = (n, fix, fixMax, codes) => {
    if (fix !== null && n <= fixMax) head(fix | n, 0);
    else if (codes[0] && n < 0x100) head(codes[0], 1, n);
    else if (n < 0x10000) head(codes[1], 2, n);
    else head(codes[2], 4, n);
  };
  const put = (v) => {
    if (v === null || v === undefined) head(0xc0, 0);
    else if (typeof v === 'boolean') head(v ? 0xc3 : 0xc2, 0);
    else if (typeof v === 'number' && Number.isSafeInteger(v)) {
      if (v >= 0 && v < 0x80) head(v, 0);
      else if (v < 0 && v >= -32) head(v & 0xff, 0);
      else if (v >= 0 && v <= 0xffffffff) head(0xce, 4, v);
      else head(0xd3, 8, v);
    } else if (typeof v === 'number') {
      const b = Buffer.alloc(9);
      b[0] = 0xcb;
      b.writeDoubleBE(v, 1);
      parts.push(b);
    } else if (typeof v === 'string') {
      const b = Buffer.from(v, 'utf8');
      sized(b.length, 0xa0, 31, [0xd9, 0xda, 0xdb]);
      parts.push(b);
    } else if (Buffer.isBuffer(v)) {
      sized(v.length, null, 0, [0xc4, 0xc5, 0xc6]);
      parts.push(v);
    } else if (Array.isArray(v)) {
      sized(v.length, 0x90, 15, [0, 0xdc, 0xdd]);
      v.forEach(put);
    } else {
      const entries = Object.entries(v);
      sized(entries.length, 0x80, 15, [0, 0xde, 0xdf]);
      for (const [name, inner] of entries) { put(name); put(inner); }
    }
  };
  put(value);
  return Buffer.concat(parts);
}

const NEED_MORE = Symbol('need more bytes');

function decode(buffer, start) { // -> [value, end]; throws NEED_MORE when the value is not whole yet
  let at = start;
  const take = (n) => {
    if (at + n > buffer.length) throw NEED_MORE;
    at += n;
    return at - n;
  };
  const uint = (size) => buffer.readUIntBE(take(size), size);
  const text = (n) => { const from = take(n); return buffer.toString('utf8', from, from + n); };
  const bytes = (n) => { const from = take(n); return buffer.subarray(from, from + n); };
  const list = (n) => { const out = []; while (n-- > 0) out.push(get()); return out; };
  const map = (n) => { const out = Object.create(null); while (n-- > 0) { const k = get(); out[k] = get(); } return out; };
  const get = () => {
    const b = buffer[take(1)];
    if (b < 0x80) return b;
    if (b < 0x90) return map(b & 15);
    if (b < 0xa0) return list(b & 15);
    if (b < 0xc0) return text(b & 31);
    if (b >= 0xe0) return b - 256;
    switch (b) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xc4: return bytes(uint(1));
      case 0xc5: return bytes(uint(2));
      case 0xc6: return bytes(uint(4));
      case 0xca: return buffer.readFloatBE(take(4));
      case 0xcb: return buffer.readDoubleBE(take(8));
      case 0xcc: return uint(1);
      case 0xcd: return uint(2);
      case 0xce: return uint(4);
      case 0xcf: return Number(buffer.readBigUInt64BE(take(8)));
      case 0xd0: return buffer.readInt8(take(1));
      case 0xd1: return buffer.readInt16BE(take(2));
      case 0xd2: return buffer.readInt32BE(take(4));
      case 0xd3: return Number(buffer.readBigInt64BE(take(8)));
      case 0xd9: return text(uint(1));
      case 0xda: return text(uint(2));
      case 0xdb: return text(uint(4));
      case 0xdc: return list(uint(2));
      case 0xdd: return list(uint(4));
      case 0xde: return map(uint(2));
      case 0xdf: return map(uint(4));
      default: throw new Error(`byte 0x${b.toString(16)} is outside the value profile`);
    }
  };
  return [get(), at];
}

// --- the connection -------------------------------------------------------------------------------------------------

const socket = new net.Socket({ fd: 3 });
const waiting = new Map();
let nextId = 0;
let received = Buffer.alloc(0);

const send = (message) => socket.write(encode(message));
const log = (level, message, fields = {}, runId = null) =>
  send([2, 'log', [{ level, message, fields, run_id: runId }]]);
const ask = (method, params) => new Promise((resolve, reject) => {
  const id = nextId++;
  waiting.set(id, { resolve, reject });
  send([0, id, method, [params]]);
});

function refusal(name, code, message) {
  return Object.assign(new Error(message), { wire: { code, name, message, data: {}, retryable: false } });
}

async function serve(id, method, params) {
  try {
    const handler = handlers[method];
    if (!handler) throw refusal('METHOD_NOT_FOUND', 3, `no method ${method}`);
    send([1, id, null, await handler(params) ?? null]);
    if (method === 'shutdown') socket.end(() => process.exit(0));
  } catch (error) {
    if (!error.wire) console.error(error);
    send([1, id, error.wire ?? refusal('PLUGIN_ERROR', 16, `${error.name}: ${error.message}`).wire, null]);
  }
}

function handle(message) {
  if (message[0] === 0) serve(message[1], message[2], message[3][0] ?? {});
  else if (message[0] === 1) {
    const call = waiting.get(message[1]);
    waiting.delete(message[1]);
    if (call) message[2] === null ? call.resolve(message[3]) : call.reject(new Error(message[2].message));
  } // Notifications (rpc.cancel) need no answer: everything here is short.
}

socket.on('data', (data) => {
  received = Buffer.concat([received, data]);
  let at = 0;
  try {
    while (at < received.length) {
      const [message, end] = decode(received, at);
      at = end;
      handle(message);
    }
  } catch (error) {
    if (error !== NEED_MORE) { console.error(error); process.exit(1); }
  }
  received = received.subarray(at);
});
socket.on('close', () => process.exit(1)); // plugind is gone; after a shutdown we have exited with 0 already
socket.on('error', () => process.exit(1));
process.on('SIGTERM', () => process.exit(0));

// --- what this plugin does ------------------------------------------------------------------------------------------

const inZone = (zone) => new Date().toLocaleTimeString('en-GB', { timeZone: zone });
const methods = { now: ({ zone = 'UTC' } = {}) => ({ zone, time: inZone(zone) }) };
const jobs = {
  async tick({ run_id: runId }) {
    const { value } = await ask('state.get', { key: 'ticks' });
    const ticks = (value ?? 0) + 1;
    await ask('state.set', { key: 'ticks', value: ticks });
    await ask('events.emit', { name: 'tick', payload: { ticks } });
    log('info', 'tick', { ticks, time: inZone('UTC') }, runId);
    return { ticks };
  },
};
const handlers = {
  initialize: () => ({ api_version: 1, methods: Object.keys(methods) }),
  health: () => ({ status: 'ok' }),
  shutdown: () => ({}),
  run_job: (run) => jobs[run.job](run),
  call: ({ method, params }) => methods[method](params ?? {}),
};
