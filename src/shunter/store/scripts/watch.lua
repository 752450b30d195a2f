-- watch: what the leader judges nodes by, read in one step.
-- KEYS: 1 renewals hash, 2 unfenced hash, 3 seen hash, 4 ready_run string
-- ARGV: none
-- Answer: {run id of the store, its clock in ms, {node, renewal, ...}, {unfenced node, ...}, {node, ms, ...}, ready run or ''}

local time = redis.call('TIME')
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
return {
  run, time[1] * 1000 + math.floor(time[2] / 1000), redis.call('HGETALL', KEYS[1]), redis.call('HKEYS', KEYS[2]),
  redis.call('HGETALL', KEYS[3]), redis.call('GET', KEYS[4]) or '',
}
