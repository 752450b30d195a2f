-- claim: a node takes its share of attempts reserved on this incarnation of it. reserved > reserved, reserved > running.
-- KEYS: 1 incarnations hash, 2 phases hash, 3 active zset, 4 ended zset, 5 events stream, 6 specs hash
-- ARGV: 1 node, 2 incarnation, 3 events to keep, then items (see _common.lua; no held sets change)
-- Answer: {'stale'} if another incarnation of the node registered since, else per item two elements: as in _common.lua,
--         and the stored spec ('' unless ok). No store, no start.
-- A share is taken only of the very allocation that is stored, and only if one of its shares is on this incarnation: also a
-- claim that was applied before is answered 'ok' to nobody else.

local legal = {['reserved>reserved'] = true, ['reserved>running'] = true}

if not incarnation_is(KEYS[1], ARGV[1], ARGV[2]) then return {'stale'} end
local answers, proven, stored = check(legal, KEYS[2], 4)

local function ours(value, claimed)
  local _, _, held = head(value)
  local _, _, allocation = head(claimed)
  local shares = ',' .. (string.match(allocation, '@(.*)$') or '') .. ','
  return held == allocation and string.find(shares, ',' .. ARGV[1] .. '/' .. ARGV[2] .. ',', 1, true)
end
local refused, passed = {}, {}
for n = 1, #answers do
  local job, claimed = ARGV[4 + (n - 1) * 6], ARGV[6 + (n - 1) * 6]
  if answers[n] == 'ok' and not ours(stored[n], claimed) then refused[job] = true end
  if answers[n] ~= 'gone' and refused[job] then answers[n] = stored[n] end
end
for _, i in ipairs(proven) do
  if not refused[ARGV[i]] then passed[#passed + 1] = i end
end

local ids, places, answer = {}, {}, {}
for n = 1, #answers do
  answer[2 * n - 1], answer[2 * n] = answers[n], ''
  if answers[n] == 'ok' then
    ids[#ids + 1] = ARGV[4 + (n - 1) * 6]
    places[#places + 1] = 2 * n
  end
end
if #ids > 0 then
  local specs = redis.call('HMGET', KEYS[6], unpack(ids))
  for n = 1, #ids do answer[places[n]] = specs[n] or '' end
end
write(passed, KEYS[2], KEYS[3], KEYS[4], KEYS[5], ARGV[3])
return answer
