-- advance: another server has taken the store over, and may not have the last that was written: numbers jump ahead, so that
-- none that was given out then is given out again.
-- KEYS: 1 leader hash, 2 meta hash
-- ARGV: 1 epoch, 2 token, 3 run id of this server, 4 how far
-- Answer: 'ok' (numbers have jumped), 'same' (not the first call on this run, or the first run ever), or 'stale' if the
--         caller no longer leads.

local at = redis.call('HMGET', KEYS[1], 'epoch', 'token')
if at[1] ~= ARGV[1] or at[2] ~= ARGV[2] then return 'stale' end
local before = redis.call('HGET', KEYS[2], 'run')
if before == ARGV[3] then return 'same' end
redis.call('HSET', KEYS[2], 'run', ARGV[3])
if not before then return 'same' end
redis.call('HINCRBY', KEYS[2], 'last_job', ARGV[4])
redis.call('HINCRBY', KEYS[2], 'last_incarnation', ARGV[4])
return 'ok'
