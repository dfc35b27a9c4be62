# N2 is elected and waits for n3, whose host stands still for a moment: it ends no term as stuck when it runs on.
cluster n1 n2 n3 durability quorum
lead n1
write w1
when promote:6 n2 freeze n3 walreceiver for 2600ms
kill n1
wait 1700ms
pause-host n3 for 800ms
expect term 2 leader n2 within 10s
expect term 2 for 3s
