# Async is raised to quorum-relaxed while the standby is away: the rule stays the leader alone, but by lease no more.
# What it acknowledges from then on is not lost when its host is, though the standby that missed it is back.
cluster n1 n2 witness w durability async
lead n1
write w1
wait 1s
kill n2
wait 4s
durability quorum-relaxed
wait 2s
write w2
cut n1 n2
start n2
wait 1s
kill n1
heal
expect no leader for 15s
start n1
expect leader n1 within 15s
expect durable w2
