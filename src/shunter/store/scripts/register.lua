-- register: a node incarnation joins, or reports a changed inventory.
-- KEYS: 1 nodes hash, 2 incarnations hash, 3 seen hash, 4 events stream, 5 held set of the node, 6 queues set,
--       7 renewals hash
-- ARGV: 1 node, 2 incarnation, 3 host identity, 4 node JSON, 5 ms after which a silent host may be replaced, 6 events to keep,
--       7 token of this registration, 8 '1' if only its inventory changed
-- Answer: {'ok'}; {'taken', host, ms since it was seen} if another host renewed this name lately,
--         {'holds', host, jobs} if it is silent and still has jobs; {'stale'} if a later
--         incarnation on this host registered since, this one was declared lost, or has an inventory to change and is not known.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local at = redis.call('HGET', KEYS[2], ARGV[1])
if ARGV[8] == '1' and at ~= ARGV[2] .. ' ' .. ARGV[3] then return {'stale'} end
if at then
  local incarnation, host = string.match(at, '^(%S+) (.*)$')
  local silent = now - tonumber(redis.call('HGET', KEYS[3], ARGV[1]) or 0)
  if host ~= ARGV[3] then
    local lost = string.sub(incarnation, 1, 1) == '-'
    if silent < tonumber(ARGV[5]) and not lost then return {'taken', host, silent} end
    -- Its keeper may still run them: whoever took the name over would have them run twice.
    local held = redis.call('SCARD', KEYS[5])
    if held > 0 then return {'holds', host, held} end
  end
  local lost = string.match(incarnation, '^-(.*)$')
  if lost == ARGV[2] or (lost or incarnation) > ARGV[2] then return {'stale'} end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[4])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2] .. ' ' .. ARGV[3])
redis.call('HSET', KEYS[3], ARGV[1], string.format('%d', now))
local token, terms = string.match(redis.call('HGET', KEYS[7], ARGV[1]) or '', '^(%S+) %d+ %d+ (%S+)$')
if token ~= ARGV[7] then redis.call('HSET', KEYS[7], ARGV[1], ARGV[7] .. ' 0 0 ' .. (terms or 'normal')) end
redis.call('SADD', KEYS[6], ARGV[1] .. ' ' .. ARGV[2])
redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[6], '*', 'k', 'node_joined', 'n', ARGV[1], 'v', ARGV[4])
return {'ok'}
