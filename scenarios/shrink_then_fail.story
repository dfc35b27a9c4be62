# A dead standby leaves the rule on another's word; then the leader may fail too.
cluster n1 n2 n3 durability quorum
lead n1
write w1
kill n3
expect rule n2 within 10s
write w2
kill n1 postmaster
expect term 2 leader n2 within 10s
expect durable w2
