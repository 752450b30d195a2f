-- lead: take or renew the leader's lease, and say that this coordinator is there, whether it leads or stands by.
-- KEYS: 1 leader hash, 2 events stream, 3 coordinators hash
-- ARGV: 1 name, 2 token, 3 lease in ms, 4 events to keep, 5 id of the coordinator ('': it says nothing), 6 for how many ms
--       what it says counts, 7 what it says
-- Answer: {epoch, ms left, name of the leader, 1 if the caller leads}. A new leader gets a new epoch.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local at = redis.call('HMGET', KEYS[1], 'epoch', 'token', 'until_ms', 'name')
local epoch, left = tonumber(at[1] or 0), tonumber(at[3] or 0) - now
if ARGV[5] ~= '' then
  local others = redis.call('HGETALL', KEYS[3])
  for n = 1, #others, 2 do
    if tonumber(string.match(others[n + 1], '^%d+')) <= now then redis.call('HDEL', KEYS[3], others[n]) end
  end
  redis.call('HSET', KEYS[3], ARGV[5], string.format('%d %s', now + ARGV[6], ARGV[7]))
end
if at[2] == ARGV[2] then
  redis.call('HSET', KEYS[1], 'until_ms', string.format('%d', now + ARGV[3]))
  return {epoch, tonumber(ARGV[3]), ARGV[1], 1}
end
if at[2] and at[2] ~= '' and left > 0 then
  return {epoch, left, at[4], 0}
end
epoch = epoch + 1
redis.call('HSET', KEYS[1], 'epoch', epoch, 'token', ARGV[2], 'name', ARGV[1],
  'until_ms', string.format('%d', now + ARGV[3]), 'since_ms', string.format('%d', now))
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', 'k', 'leader', 'n', ARGV[1], 'v', epoch)
return {epoch, tonumber(ARGV[3]), ARGV[1], 1}
