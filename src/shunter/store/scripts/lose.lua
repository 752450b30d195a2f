-- lose: a node incarnation is lost: what it holds is taken off it, and nothing of it counts any more, in one step.
-- reserved > queued, running > running, running > stopping, running > ended, running > queued, stopping > stopping,
-- stopping > ended, stopping > queued.
-- KEYS: 1 leader hash, 2 phases hash, 3 active zset, 4 ended zset, 5 events stream, 6 incarnations hash, 7 renewals hash,
--       8 unfenced hash, 9 held set of the node, 10.. held sets of the nodes concerned
-- ARGV: 1 epoch, 2 token (both '': an operator says so), 3 run id of the store, 4 node, 5 its renewal as the leader saw it
--       stand (3 and 5 '': whatever they are), 6 how many jobs it holds, 7 why, 8 events to keep, then items (see _common.lua)
-- Answer: 'ok'; 'stale' if the caller no longer leads; 'moved' if anything is not as the caller saw it: nothing was changed;
--         'unknown' if there is no such node, or it is lost.

local legal = {
  ['reserved>queued'] = true, ['running>running'] = true, ['running>stopping'] = true, ['running>ended'] = true,
  ['running>queued'] = true, ['stopping>stopping'] = true, ['stopping>ended'] = true, ['stopping>queued'] = true,
}

if ARGV[1] ~= '' and not leads(KEYS[1], ARGV[1], ARGV[2]) then return 'stale' end
local at = redis.call('HGET', KEYS[6], ARGV[4])
if not at or string.sub(at, 1, 1) == '-' then return 'unknown' end
if ARGV[3] ~= '' and run_id() ~= ARGV[3] then return 'moved' end
if ARGV[5] ~= '' then
  if redis.call('HGET', KEYS[7], ARGV[4]) ~= ARGV[5] then return 'moved' end
  if redis.call('HEXISTS', KEYS[8], ARGV[4]) == 1 then return 'moved' end
end
if redis.call('SCARD', KEYS[9]) ~= tonumber(ARGV[6]) then return 'moved' end
local answers, passed = check(legal, KEYS[2], 9)
if #passed ~= #answers then return 'moved' end
write(passed, KEYS[2], KEYS[3], KEYS[4], KEYS[5], ARGV[8])
redis.call('HSET', KEYS[6], ARGV[4], '-' .. at)
redis.call('HDEL', KEYS[7], ARGV[4])
redis.call('HDEL', KEYS[8], ARGV[4])
redis.call('XADD', KEYS[5], 'MAXLEN', '~', ARGV[8], '*', 'k', 'node_lost', 'n', ARGV[4], 'v', ARGV[7])
return 'ok'
