# (g), (h) 3: the old leader comes back with a tail that nobody acknowledged, and is rebuilt from the new leader.
cluster n1 n2 witness w wal durability quorum
lead n1
write w1
cut n1                          # from everybody
write w2 on n1                  # nobody else has it
expect leader n2 within 5s
expect unacked w2
write w3
heal
expect rule n1 w within 30s
write w4
expect durable w3
