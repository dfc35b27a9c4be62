# One direction of one link is lost: no term for a cut between standbys; the leader that can't be heard is replaced.
cluster n1 n2 n3 durability quorum
lead n1
cut n2 > n3
expect term 1 for 10s
heal
cut n1 > n2
cut n1 > n3
expect leader n2|n3 within 6s
write w1
heal
expect voter n1 within 30s
