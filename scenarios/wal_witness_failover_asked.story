# An operator asks for a failover to a standby that is behind the witness: it is foreseen to fetch the rest, and does.
cluster n1 n2 witness w wal durability quorum
lead n1
write w1
pause
cut n1 n2
write w2                        # n2 does not have it
kill n1
heal
wait 1s
failover n2
expect accepted
expect said "n2 leads"
expect leader n2 within 3s
expect durable w2
