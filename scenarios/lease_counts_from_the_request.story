# C-26: a lease counts from when its read began. The answer is late, and the leader is heard by nobody from the
# moment on at which the next term was agreed: counted from the answer the lease would outlast the wait for it.
seed 67
cluster n1 n2 n3 durability async
weather 1ms 2ms loss 0 twice 0 stray 0
store lost 0 late 300 slow 0
lead n1
load 5 40ms
wait 2s
when begin-term any mute n1 for 8s
failover n2
wait 9s
expect leader n2|n3 within 10s
end
