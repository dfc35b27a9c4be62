# Planned, named, and back again.
cluster n1 n2 n3 durability quorum
lead n1
write w1
switchover n2
expect term 2 leader n2 within 1500ms
expect durable w1
expect rule n1 n3 within 10s
write w2
switchover n1
expect term 3 leader n1 within 1500ms
write w3
switchover
expect term 4 leader n2|n3 within 2s
write w4
