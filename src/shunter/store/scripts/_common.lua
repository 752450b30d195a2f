-- Prepended to every script that moves jobs. A batch of items, each of six arguments:
--   job id, revision it is expected at, new value, event kind, event JSON, KEYS indexes of the nodes whose held set changes
-- An item is applied only if the stored revision is the expected one and the pair of phases is in `legal`; all checks come
-- before the first write. The answer has one element per item: 'ok' (also if this very value is stored already, so that
-- a repeated call after a lost answer is harmless), 'gone', or the stored value, for the caller to look again. A job that a
-- batch names twice is moved once: the second item is answered what the first one stored.

local function head(value)
  return string.match(value, '^(%a+) (%d+) (%S+) (%d+)\n')
end

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function leads(leader, epoch, token)
  local at = redis.call('HMGET', leader, 'epoch', 'token')
  return at[1] == epoch and at[2] == token
end

local function run_id()
  return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
end

local function incarnation_is(incarnations, node, incarnation)
  local at = redis.call('HGET', incarnations, node)
  return at and string.match(at, '^(%S+) ') == incarnation
end

-- Runs a command with *args* in parts of an even size: unpack has a limit, what a node holds has none.
local function in_parts(command, key, args)
  for first = 1, #args, 1000 do
    redis.call(command, key, unpack(args, first, math.min(first + 999, #args)))
  end
end

local function check(legal, phases, first)
  local ids = {}
  for i = first, #ARGV, 6 do ids[#ids + 1] = ARGV[i] end
  local stored = {}
  for first = 1, #ids, 1000 do
    local last = math.min(first + 999, #ids)
    for n, value in ipairs(redis.call('HMGET', phases, unpack(ids, first, last))) do stored[first + n - 1] = value end
  end
  local answers, passed, moved = {}, {}, {}
  for n = 1, #ids do
    local i = first + (n - 1) * 6
    local value = moved[ids[n]] or stored[n]
    if not value then
      answers[n] = 'gone'
    elseif value == ARGV[i + 2] then
      answers[n] = 'ok'
    else
      local from, _, _, rev = head(value)
      local to = head(ARGV[i + 2])
      if rev == ARGV[i + 1] and legal[from .. '>' .. to] and not moved[ids[n]] then
        answers[n] = 'ok'
        passed[#passed + 1] = i
        moved[ids[n]] = ARGV[i + 2]
      else
        answers[n] = value
      end
    end
  end
  return answers, passed, stored
end

local function write(passed, phases, active, ended, events, maxlen)
  if #passed == 0 then return end
  local values, gone, ends, held, freed = {}, {}, {}, {}, {}
  for _, i in ipairs(passed) do
    local to = head(ARGV[i + 2])
    values[#values + 1] = ARGV[i]
    values[#values + 1] = ARGV[i + 2]
    if to == 'ended' then
      gone[#gone + 1] = ARGV[i]
      ends[#ends + 1] = 0
      ends[#ends + 1] = ARGV[i]
    end
    local changed = (to == 'ended' or to == 'queued') and freed or held
    for index in string.gmatch(ARGV[i + 5], '%d+') do
      index = tonumber(index)
      changed[index] = changed[index] or {}
      table.insert(changed[index], ARGV[i])
    end
  end
  in_parts('HSET', phases, values)
  if #gone > 0 then
    local now = now_ms()
    for n = 1, #ends, 2 do ends[n] = now end
    in_parts('ZREM', active, gone)
    in_parts('ZADD', ended, ends)
  end
  for index, ids in pairs(held) do in_parts('SADD', KEYS[index], ids) end
  for index, ids in pairs(freed) do in_parts('SREM', KEYS[index], ids) end
  for _, i in ipairs(passed) do
    redis.call('XADD', events, 'MAXLEN', '~', maxlen, '*', 'j', ARGV[i], 'k', ARGV[i + 3], 'e', ARGV[i + 4], 'v', ARGV[i + 2])
  end
end
