# The leader is killed and elected again while a proxy hears no agent, and goes on with it: what the proxy takes for
# a transaction of term 1 is one of term 2, and committed, though its number is none that term 1 has left behind.
cluster n1 n2 n3 no_failover n2 no_failover n3 durability quorum
lead n1
proxy p1
wait 1s
via p1 x0 single
expect told x0 done within 1s
deafen-proxy p1 for 950ms
kill n1 postmaster
expect term 2 leader n1 within 800ms
when front-commit any cut-proxy p1 it for 4s
via p1 x1 single
expect told x1 done within 9s
expect once x1
expect reached "front: settled Committed"
wait 2s
end
