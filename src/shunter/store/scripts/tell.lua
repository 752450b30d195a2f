-- tell: a node says what happened on it, for people; nothing is decided by it.
-- KEYS: 1 incarnations hash, 2 events stream
-- ARGV: 1 node, 2 incarnation, 3 kind of the entry, 4 what it says, 5 events to keep
-- Answer: 'ok', or 'stale' if this is not the node's incarnation.

local at = redis.call('HGET', KEYS[1], ARGV[1])
if not at or string.match(at, '^(%S+) ') ~= ARGV[2] then return 'stale' end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[5], '*', 'k', ARGV[3], 'n', ARGV[1], 'v', ARGV[4])
return 'ok'
