"""The proofs of "lose nothing", on real processes: seeded, bounded in time, each a module that can run alone.

    tests/soak.sh --seed 1 --minutes 10           every proof, one line of figures for each, and a report as JSON
    python -m tests.soak.kill_points --seed 1     one proof alone

`proof` says what a proof is, `ground` what it stands on: a cluster, users, and the books of what was acknowledged.
`faulty_worker` and `shifted_clock` start the real programs with a failing disk or a wrong clock, `proxy` and `gate`
stand between the programs. Shorter versions of all proofs are in `tests/faults/`, of `folders` in
`tests/unit/test_snapshot_round_trip.py`. What was measured is in `docs/reliability.md`.
"""
