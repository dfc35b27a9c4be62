# A frozen agent is replaced by its guard; PostgreSQL is not touched, no term begins.
cluster n1 n2 n3 durability quorum
lead n1
write w1
freeze n1 agent
expect term 1 for 6s
write w2
expect term 1 leader n1
