# Async: a guard that was started anew has a deadline before its server is promoted.
seed 13031
cluster n1 n2 witness w durability async
weather 1ms 8ms loss 3 twice 0 stray 38
store lost 65 late 0 slow 0
late 3
load 3 157ms
kill leader checkpointer
wait 189ms
freeze n1 startup for 776ms
wait 1453ms
wait 1401ms
wait 1703ms
kill leader postmaster
wait 1397ms
crash leader guard
wait 934ms
cut leader for 5500ms
wait 696ms
wait 936ms
wait 1486ms
wait 1597ms
calm
maybe resume
expect serving within 60s
maybe resume
expect rule nobody within 150s
expect serving within 60s
end
