-- A conversation with plugind by neovim's own RPC; what it saw is printed as JSON.
local plugin, size = 'test.good', 1000000
local channel = vim.fn.sockconnect('pipe', vim.env.PLUGIND_SOCKET, { rpc = true })

local function ask(method, ...)
  return vim.rpcrequest(channel, method, ...)
end

local function refused(method, ...)
  local ok, why = pcall(vim.rpcrequest, channel, method, ...)
  assert(not ok, method .. ' was not refused')
  -- Neovim puts a line of its own before what the daemon said.
  return (tostring(why):gsub('^.-\n', ''))
end

local function converse()
  local keys = {}
  for _, one in ipairs(ask('plugins.list')) do
    table.insert(keys, one.key)
  end
  local methods = ask('rpc.describe').methods
  local saw = {
    keys = keys,
    methods = vim.tbl_count(methods),
    role = methods['plugins.load'].role,
    loaded = ask('plugins.load', plugin).phase,
    named = ask('plugins.call', {
      plugin = plugin,
      method = 'echo',
      params = { value = { 1, -2, 2.5, 'grün', vim.NIL, true } },
    }).result,
  }

  local text = string.rep('0123456789', size / 10)
  saw.large = ask('plugins.call', plugin, 'echo', { value = text }).result == text

  -- What wants no answer gets none, whether it means something or not.
  vim.rpcnotify(channel, 'rpc.cancel', 1000000)
  vim.rpcnotify(channel, 'daemon.ping')
  saw.ping = ask('daemon.ping').pong

  -- Neovim answers each event with a notification `nvim_error_event`: it has no function of that name.
  local number = ask('events.subscribe', { plugins = { plugin }, types = { 'plugin.*' } }).subscription
  saw.disabled = ask('plugins.disable', { plugin = plugin, reason = 'tea' }).status
  saw.unsubscribed = ask('events.unsubscribe', number).ok
  saw.errors = {
    refused('plugins.disable', plugin),
    refused('plugins.load', 'nobody'),
    refused('plugins.lod', plugin),
    refused('plugins.load', { plugn = plugin }),
  }
  return saw
end

local ok, saw = pcall(converse)
if not ok then
  io.stderr:write(tostring(saw) .. '\n')
  vim.cmd('cquit')
end
io.stdout:write(vim.json.encode(saw) .. '\n')
vim.cmd('qall!')
