"""Counting commands: from INFO, from MONITOR, and by what the scripts may run."""

from __future__ import annotations

from collections import Counter

from benchmarks.counts import called_in, commands_of_scripts, parse_commandstats, script_names, sent_at_least, split

SHA = "a" * 40


def test_calls_by_command_with_subcommands_together() -> None:
    info = {
        "cmdstat_evalsha": "calls=10,usec=52,usec_per_call=5.20,rejected_calls=0,failed_calls=0",
        "cmdstat_client|id": "calls=2,usec=1,usec_per_call=0.50",
        "cmdstat_client|setname": "calls=3,usec=1,usec_per_call=0.33",
        "something_else": "calls=7",
    }
    assert parse_commandstats(info) == {"evalsha": 10, "client": 5}


def test_what_a_script_may_run() -> None:
    text = "redis.call('HSET', KEYS[1])\nlocal a = redis.pcall( 'get', 'x') -- redis.call(KEYS[1])"
    assert called_in(text) == {"hset", "get"}


def test_shunters_scripts_are_known_by_their_digests() -> None:
    assert {"submit", "place", "claim", "report", "renew"} <= set(script_names().values())
    assert all(len(sha) == 40 for sha in script_names())


def test_what_only_clients_send_is_in_no_script() -> None:
    assert {"evalsha", "xread", "brpop", "lpush"}.isdisjoint(commands_of_scripts())
    assert {"hset", "hmget", "xadd", "time"} <= commands_of_scripts()


def test_sent_at_least_leaves_out_what_scripts_may_have_run() -> None:
    assert sent_at_least({"evalsha": 3, "hmget": 9, "xread": 2}, frozenset({"hmget"})) == 5


def test_monitor_tells_who_sent_what() -> None:
    lines = [
        b'+1700000000.100000 [0 unix:/tmp/redis.sock] "EVALSHA" "' + SHA.encode() + b'" "2" "key" "[0 lua] \\"GET\\""',
        b'+1700000000.100001 [0 lua] "HGET" "key" "field"',
        b'+1700000000.100002 [0 lua] "HSET" "key" "field" "value"',
        b'+1700000000.200000 [0 127.0.0.1:1234] "PING"',
        b'+1700000000.300000 [15 unix:/tmp/redis.sock] "evalsha" "' + b"b" * 40 + b'" "0"',
        b'+1700000000.300001 [0 lua] "hget" "key" "field"',
        b"",
    ]
    seen = split(lines, {SHA: "renew"})
    assert seen.sent == Counter(evalsha=2, ping=1)
    assert seen.in_scripts == Counter(hget=2, hset=1)
    assert seen.by_script == {"other": (1, 1), "renew": (1, 2)}
