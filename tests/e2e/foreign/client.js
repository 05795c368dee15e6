// A conversation with plugind by the Transport of npm's `neovim`; what it saw is printed as JSON.
'use strict';
const net = require('node:net');
const { join } = require('node:path');

const { Transport } = require(join(process.env.PLUGIND_TEST_NODE_MODULES, 'neovim/lib/utils/transport'));

const plugin = 'test.good';
const size = 1000000;

async function converse(transport) {
  const events = [];
  let disabled;
  const sawDisabled = new Promise(resolve => { disabled = resolve; });
  transport.on('notification', (name, params) => {
    events.push(name);
    if (params[0].event && params[0].event.type === 'plugin.disabled') disabled(params[0].event.plugin);
  });

  const request = (method, params) => new Promise((resolve, reject) => {
    transport.request(method, params, (error, result) => (error === null ? resolve(result) : reject(error)));
  });
  const refused = (method, params) => request(method, params).then(
    () => { throw new Error(`${method} was not refused`); },
    error => error,
  );

  const { methods } = await request('rpc.describe', []);
  const keys = (await request('plugins.list', [])).map(one => one.key);
  const { subscription } = await request('events.subscribe', [{ plugins: [plugin], types: ['plugin.*'] }]);
  const loaded = (await request('plugins.load', [plugin])).phase;
  const named = (await request('plugins.call', [
    { plugin, method: 'echo', params: { value: [1, -2, 2.5, 'grün', null, true] } },
  ])).result;

  // Answered in another order than they are asked in.
  const together = (await Promise.all([8, 7, 6, 5, 4, 3, 2, 1].map(
    hundredths => request('plugins.call', [{ plugin, method: 'sleep', params: { s: hundredths / 100 } }]),
  ))).length;

  const waiting = refused('plugins.wait', [{ plugin, phase: 'backoff', timeout_s: 60 }]);
  transport.notify('rpc.cancel', [transport.nextRequestId]);
  const cancelled = await waiting;
  // What wants no answer gets none, whether it means something or not.
  transport.notify('rpc.cancel', [1000000]);
  transport.notify('daemon.ping', []);

  const text = '0123456789'.repeat(size / 10);
  const large = (await request('plugins.call', [plugin, 'echo', { value: text }])).result === text;
  const status = (await request('plugins.disable', [{ plugin, reason: 'tea' }])).status;
  const told = await sawDisabled;
  const unsubscribed = (await request('events.unsubscribe', [subscription])).ok;
  const errors = [
    await refused('plugins.disable', [plugin]),
    await refused('plugins.load', ['nobody']),
    await refused('plugins.lod', [plugin]),
    await refused('plugins.load', [{ plugn: plugin }]),
  ];
  return {
    keys,
    methods: Object.keys(methods).length,
    role: methods['plugins.load'].role,
    loaded,
    named,
    together,
    cancelled,
    large,
    disabled: status,
    notifications: [...new Set(events)],
    told,
    unsubscribed,
    errors,
  };
}

const socket = net.connect(process.env.PLUGIND_SOCKET, () => {
  const transport = new Transport();
  transport.attach(socket, socket, null);
  converse(transport).then(
    saw => { console.log(JSON.stringify(saw)); return transport.close(); },
    error => { console.error(error); process.exit(1); },
  );
});
