# The leader's host dies without a word.
cluster n1 n2 n3 durability quorum
lead n1
write w1
kill n1
expect term 2 leader n2|n3 within 1500ms
expect durable w1
write w2
start n1
expect voter n1 within 20s
wait 10s
expect term 2 leader n2|n3
write w3
