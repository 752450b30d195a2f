-- cordon: an operator wants a node to take no new work, or takes that back.
-- KEYS: 1 nodes hash, 2 cordons hash, 3 events stream
-- ARGV: 1 node, 2 why ('' takes it back), 3 by whom, 4 events to keep
-- Answer: 'ok', 'same' (it was so already) or 'unknown'.

if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 'unknown' end
local before = redis.call('HGET', KEYS[2], ARGV[1]) or ''
if before == ARGV[2] then return 'same' end
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[2], ARGV[1])
else
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
end
redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[4], '*', 'k', ARGV[2] == '' and 'node_uncordoned' or 'node_cordoned', 'n', ARGV[1], 'v', ARGV[2])
return 'ok'
