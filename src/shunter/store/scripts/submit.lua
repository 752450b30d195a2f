-- submit: create jobs, queued.
-- KEYS: 1 meta hash, 2 specs hash, 3 phases hash, 4 active zset, 5 events stream, [6 idem string, expires after a day]
-- ARGV: 1 events to keep, 2 value of a new phase, 3 event JSON, 4 digest of the whole request ('' without a key),
--       5 how far numbers jump on another server than the leader knows, then per job: job JSON, launch JSON
-- Answer: the ids in order; {'repeated', id...} for a repeated key; {'mismatch'} for a key used for another request.

if KEYS[6] then
  local before = redis.call('GET', KEYS[6])
  if before then
    local digest, first, count = string.match(before, '^(%S+) (%d+) (%d+)$')
    if digest ~= ARGV[4] then return {'mismatch'} end
    local answer = {'repeated'}
    for id = first, first + count - 1 do answer[#answer + 1] = string.format('%d', id) end
    return answer
  end
end
-- Another server serves than the one that the leader's last jump was for (advance.lua): it may lack numbers that were given
-- out there, and the next leader's jump may come after us.
local known = redis.call('HMGET', KEYS[1], 'run', 'jumped')
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
if known[1] and known[1] ~= run and known[2] ~= run then
  redis.call('HSET', KEYS[1], 'jumped', run)
  redis.call('HINCRBY', KEYS[1], 'last_job', ARGV[5])
end
local count = (#ARGV - 5) / 2
local last = redis.call('HINCRBY', KEYS[1], 'last_job', count)
local answer, specs, phases, active = {}, {}, {}, {}
for n = 1, count do
  local id = string.format('%d', last - count + n)
  answer[n] = id
  specs[2 * n - 1], specs[2 * n] = id, ARGV[4 + 2 * n] .. '\n' .. ARGV[5 + 2 * n]
  phases[2 * n - 1], phases[2 * n] = id, ARGV[2]
  active[2 * n - 1], active[2 * n] = id, id
end
redis.call('HSET', KEYS[2], unpack(specs))
redis.call('HSET', KEYS[3], unpack(phases))
redis.call('ZADD', KEYS[4], unpack(active))
for n = 1, count do
  redis.call('XADD', KEYS[5], 'MAXLEN', '~', ARGV[1], '*', 'j', answer[n], 'k', 'submitted', 'e', ARGV[3], 'v', ARGV[2], 's', ARGV[4 + 2 * n])
end
if KEYS[6] then
  redis.call('SET', KEYS[6], ARGV[4] .. ' ' .. answer[1] .. ' ' .. count, 'EX', 86400)
end
return answer
