# A switchover with no healthy standby is refused at once, in words; nothing is changed.
cluster n1 n2 n3 witness u witness v durability quorum
lead n1
write w1
switchover
expect said "to n2"
expect leader n2 within 3s
expect rule all within 10s
kill n1
wait 1200ms
switchover n1
expect refused TAN0118
expect refused "n1's agent is not heard"
kill n3
wait 1200ms
switchover
expect refused TAN0118
expect term 2 leader n2
