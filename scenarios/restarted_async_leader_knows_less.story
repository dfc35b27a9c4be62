# C-26: an agent of an async leader is restarted while cut off, and knows the store's log from before it led: it must not move its guard's deadline as a standby would.
seed 2159
cluster n1 n2 witness w durability async
weather 1ms 2ms loss 12 twice 15 stray 0
store lost 109 late 0 slow 0 raft
late 1
load 4 203ms
crash leader guard
wait 914ms
when start:1 any kill leader for 2500ms
wait 1367ms
cut n1 for 3994ms
wait 1898ms
kill leader postmaster
wait 2000ms
wait 711ms
when begin-term any cut it for 2579ms
wait 303ms
cut leader
wait 241ms
wait 743ms
freeze n2 agent for 2016ms
wait 730ms
wait 1929ms
wait 378ms
calm
maybe resume
expect serving within 60s
end
