-- stop: someone cancels jobs. queued > ended, reserved > ended, running > stopping, stopping > stopping.
-- KEYS: 1 phases hash, 2 active zset, 3 ended zset, 4 events stream, 5.. held sets of the nodes concerned
-- ARGV: 1 events to keep, then items (see _common.lua)
-- Answer: one element per item.

local legal = {
  ['queued>ended'] = true, ['reserved>ended'] = true, ['running>stopping'] = true, ['stopping>stopping'] = true,
}

local answers, passed = check(legal, KEYS[1], 2)
write(passed, KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1])
return answers
