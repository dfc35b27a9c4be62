# A switchover waits for the witness's acknowledgement at once, also while the old leader comes back.
cluster n1 n2 witness w wal durability quorum
lead n1
write w1
switchover n2
expect leader n2 within 3s
write w2
expect rule n1 w within 20s
switchover
expect leader n1 within 3s
expect durable w2
wait 500ms
switchover w
expect refused "no database"
failover w
expect refused "no database"
