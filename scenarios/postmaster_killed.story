# The leader's postmaster dies. Its agent says so, and a standby leads at once.
cluster n1 n2 n3 durability quorum
lead n1
write w1
kill n1 postmaster
expect term 2 leader n2|n3 within 1500ms
expect durable w1
expect rule all within 20s     # the old leader acknowledges again
write w2
