# C-25: the guard of the elected node is started anew, and its agent dies as its server is promoted, cut off: nobody moves a deadline on, so the guard must have had one before.
cluster n1 n2 witness v witness w durability async
lead n1
load 8 40ms
wait 2s
kill n2
wait 1s
when elect any crash n1 guard
when promote:7 n1 crash n1 agent
when promote:7 n1 cut n1
crash n1 guard
wait 4s
start n2
wait 14s
heal
expect serving within 60s
end
