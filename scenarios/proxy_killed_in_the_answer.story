# The leader's host is lost once a COMMIT is acknowledged and before its answer is read: the proxy asks the next
# leader for the transaction's fate, and its client hears of nothing. Where the record had got to nobody else, it
# is told that it was rolled back.
cluster n1 n2 n3 durability quorum
lead n1
proxy p1
wait 1s
when front-answer any kill it
via p1 x1 block
expect told x1 done within 5s
expect once x1
expect reached "front: settled Committed"
calm
expect rule all within 30s
when front-commit any kill it postmaster
via p1 x2 block
expect told x2 40001 within 5s
expect never x2
expect reached "front: settled NotCommitted"
wait 2s
end
