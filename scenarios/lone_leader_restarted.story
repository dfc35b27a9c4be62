# The leader's agent is restarted while its only standby is dead: it can't prove the rule again, and yet it
# checkpoints, so that another may be copied from it and take that standby's place.
cluster n1 n2 n3 durability quorum
lead n1
write w1
reinit n3
expect rule n2 within 10s
kill n3
kill n2
crash n1 agent
wait 2s
start n3
expect rule n3 within 60s
write w2
start n2
expect rule all within 30s
