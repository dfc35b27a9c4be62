# The leader's link is cut both ways: another leads, the old one can't acknowledge, and comes back by itself.
cluster n1 n2 n3 durability quorum
lead n1
write w1
cut n1
write w2 on n1
expect term 2 leader n2|n3 within 5s
expect unacked w2
write w3
wait 5s
heal
expect voter n1 within 30s
expect unacked w2
write w4
