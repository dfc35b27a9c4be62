# C-14: a term opens under a rule whose only standby is gone for good, while another has come up to follow the new leader.
cluster n1 n2 n3 durability quorum
lead n1
write w1
reinit n3
expect rule n2 within 10s
kill n1
expect leader n2 within 60s
expect durable w1
expect rule n3 within 10s
write w2
