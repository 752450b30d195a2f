-- leave: a node incarnation that holds nothing leaves the cluster for good.
-- KEYS: 1 nodes hash, 2 incarnations hash, 3 seen hash, 4 cordons hash, 5 held set of the node, 6 events stream,
--       7 renewals hash, 8 unfenced hash
-- ARGV: 1 node, 2 incarnation ('' : whichever), 3 events to keep
-- Answer: 'ok', 'busy' (it still holds jobs), 'stale' or 'unknown'.

local at = redis.call('HGET', KEYS[2], ARGV[1])
if not at then return 'unknown' end
if ARGV[2] ~= '' and string.match(at, '^(%S+) ') ~= ARGV[2] then return 'stale' end
if redis.call('SCARD', KEYS[5]) > 0 then return 'busy' end
for _, n in ipairs({1, 2, 3, 4, 7, 8}) do redis.call('HDEL', KEYS[n], ARGV[1]) end
redis.call('XADD', KEYS[6], 'MAXLEN', '~', ARGV[3], '*', 'k', 'node_left', 'n', ARGV[1], 'v', '')
return 'ok'
