# A removed member is no part of the majority by whose clocks an async leader's time is over.
cluster n1 n2 n3 n4 durability async
lead n1
remove n4
wait 5s
kill n1
expect term 2 leader n2|n3 within 10s
