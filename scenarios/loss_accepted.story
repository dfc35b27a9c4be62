# C-18: leader and one standby are gone for good. Only named, and only what they alone had is lost.
cluster n1 n2 n3 witness u witness v durability quorum
lead n1
write w1
cut n1 n3
wait 100ms
write w2                        # on n1 and n2 only
kill n1
kill n2
heal
wait 5s
expect no leader
failover
expect refused TAN0617
expect refused "n1 (last heard"
expect refused "n2 (last heard"
failover n3 losing n1
expect refused TAN0617
failover losing n1,n2,n3
expect refused TAN0118
failover n2 losing n1,n2
expect refused TAN0107
failover losing n3,n1
expect refused TAN0123
expect term 1
when begin-term any nonsense 7
failover losing n1,n2
forfeit w2
expect accepted
expect said "n3 leads term 2"
expect said "n2: at least"
expect leader n3 within 5s      # alone: nobody else is left to acknowledge
expect durable w1
start n2                        # banned: it comes back as somebody new
expect history "n2 joined with an empty disk (life 2)" within 40s
expect rule n2 within 40s
