# A cluster lets so many members in and no more, and goes on.
cluster n1 n2 n3 durability quorum
lead n1
crowd
expect refused "too many members"
write w1
kill n1
expect leader n2|n3 within 10s
expect durable w1
end
