# The leader dies in the middle of a record. The standby that has its beginning asks the next leader for a rest
# that nobody has; started afresh, it follows, and the leader whose only standby it is can open.
cluster n1 n2 n3 durability quorum
lead n1
write w1
kill n1
tear n3
expect leader n2 within 15s
expect durable w1
write w2
start n1
expect rule n1 n3 within 30s
kill n2
tear n3                         # the same again, in another term
expect term 3 leader n1 within 15s
expect durable w2
