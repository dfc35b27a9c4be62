# C-10: the only standby of a strict cluster can't leave the rule. It is copied anew while commits wait for it, and counts again only with everything.
cluster n1 n2 witness w durability quorum
lead n1
write w1
reinit n2
expect history "n2 is now being rebuilt" within 5s
write w2 on n1
expect acked w2 within 30s
expect voter n2 within 30s
expect rule n2
kill n1
expect term 2 within 5s
start n1
expect leader n2 within 20s
expect durable w2
